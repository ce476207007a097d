# What init scripts and uci-defaults scripts may use. Sourced, never run.

N='
'

append() {
	# append VARIABLE VALUE [SEPARATOR]
	eval "$1=\"\${$1:+\${$1}\${3:- }}\$2\""
}

default_postinst() { return 0; }
default_prerm() { return 0; }

# --- settings: config_load PACKAGE, then ask for what it holds ------------------------------------

config_load() {
	CONFIG_SECTIONS=
	config_assignments=$(uci -q shell "$1") || return 1
	eval "$config_assignments"
}

config_get() {
	# config_get VARIABLE SECTION OPTION [DEFAULT]
	eval "$1=\"\${CONFIG_$2_$3:-\$4}\""
}

config_get_bool() {
	# config_get_bool VARIABLE SECTION OPTION [DEFAULT]: 1, 0 or the default
	config_get "$1" "$2" "$3"
	eval "config_value=\$$1"
	case "$config_value" in
	1 | on | yes | true | enabled) eval "$1=1" ;;
	0 | off | no | false | disabled) eval "$1=0" ;;
	*) eval "$1=\$4" ;;
	esac
}

config_foreach() {
	# config_foreach FUNCTION [TYPE [ARGUMENT...]]: calls FUNCTION SECTION ARGUMENT...
	config_function=$1
	config_wanted=$2
	shift "$(($# > 1 ? 2 : 1))"
	for config_section in $CONFIG_SECTIONS; do
		eval "config_type=\$CONFIG_${config_section}_TYPE"
		[ -n "$config_wanted" ] && [ "$config_type" != "$config_wanted" ] || "$config_function" "$config_section" "$@"
	done
}

config_list_foreach() {
	# config_list_foreach SECTION OPTION FUNCTION [ARGUMENT...]: calls FUNCTION ITEM ARGUMENT...
	config_list=CONFIG_$1_$2
	config_function=$3
	shift 3
	eval "config_length=\${${config_list}_LENGTH:-0}"
	config_at=0
	while [ "$config_at" -lt "$config_length" ]; do
		config_at=$((config_at + 1))
		eval "config_item=\$${config_list}_ITEM$config_at"
		"$config_function" "$config_item" "$@"
	done
}
