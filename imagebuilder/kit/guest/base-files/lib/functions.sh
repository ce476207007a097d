# What init scripts and uci-defaults scripts may use. Sourced, never run.

N='
'

append() {
	# append VARIABLE VALUE [SEPARATOR]
	eval "$1=\"\${$1:+\${$1}\${3:- }}\$2\""
}

default_postinst() { return 0; }
default_prerm() { return 0; }
