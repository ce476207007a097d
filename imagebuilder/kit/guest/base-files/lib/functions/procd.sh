# The part of procd's shell interface that simple services need: one supervised program an instance, with
# command, env, user, respawn, stdout and stderr; other parameters are accepted and have no effect.
# /usr/libexec/supervise keeps the program running.

procd_folder=/var/run/services

procd_quote() {
	printf "'"
	printf '%s' "$1" | sed "s/'/'\\\\''/g"
	printf "' "
}

procd_open_instance() {
	procd_instance=${1:-instance1}
	procd_command= procd_env= procd_user= procd_respawn= procd_stdout=0 procd_stderr=0
}

procd_set_param() {
	procd_key=$1
	shift
	case "$procd_key" in
	command)
		procd_command=
		procd_append_param command "$@"
		;;
	env)
		procd_env=
		procd_append_param env "$@"
		;;
	user) procd_user=$1 ;;
	respawn) procd_respawn="${1:-3600} ${2:-5} ${3:-5}" ;;
	stdout) procd_stdout=$1 ;;
	stderr) procd_stderr=$1 ;;
	esac
}

procd_append_param() {
	procd_list=$1
	shift
	for procd_word; do
		case "$procd_list" in
		command) procd_command="$procd_command$(procd_quote "$procd_word")" ;;
		env) procd_env="$procd_env$(procd_quote "$procd_word")" ;;
		esac
	done
}

procd_close_instance() {
	mkdir -p "$procd_folder"
	procd_file=$procd_folder/$service.$procd_instance
	{
		echo "set -- $procd_command"
		echo "environment=$(procd_quote "$procd_env")"
		echo "user=$(procd_quote "$procd_user")"
		echo "respawn=$(procd_quote "$procd_respawn")"
		echo "keep_stdout=$procd_stdout keep_stderr=$procd_stderr"
	} > "$procd_file"
	setsid /usr/libexec/supervise "$procd_file" < /dev/null > /dev/null 2>&1 &
	echo $! > "$procd_file.pid"
}

# what an init script may call besides, and the kit has no use for
procd_add_config_trigger() { return 0; }
procd_add_interface_trigger() { return 0; }
procd_add_jail() { return 0; }
procd_add_jail_mount() { return 0; }
procd_add_mdns() { return 0; }
procd_add_reload_trigger() { return 0; }
procd_add_validation() { return 0; }
procd_close_data() { return 0; }
procd_close_trigger() { return 0; }
procd_open_data() { return 0; }
procd_open_trigger() { return 0; }

procd_running() {
	for procd_pid in "$procd_folder/$1".*.pid; do
		[ -f "$procd_pid" ] && kill -0 "$(cat "$procd_pid")" 2> /dev/null && return 0
	done
	return 1
}

# End a supervisor with its program, which are a session of their own, and wait for that: who has not ended
# after five seconds is killed. A program that starts again finds its port and its files free.
procd_end() {
	kill -TERM "-$1" 2> /dev/null
	procd_tries=50
	while [ "$procd_tries" -gt 0 ] && kill -0 "-$1" 2> /dev/null; do
		usleep 100000
		procd_tries=$((procd_tries - 1))
	done
	kill -KILL "-$1" 2> /dev/null
}

procd_stop_all() {
	for procd_pid in "$procd_folder/$1".*.pid; do
		[ -f "$procd_pid" ] || continue
		procd_end "$(cat "$procd_pid")"
		rm -f "$procd_pid" "${procd_pid%.pid}" "${procd_pid%.pid}.out"
	done
	return 0
}
