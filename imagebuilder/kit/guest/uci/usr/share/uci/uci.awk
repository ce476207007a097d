# uci for busybox awk: OpenWrt's file format, commands and messages, written anew.
#
# One package (a file of /etc/config) is in memory at a time: sections 1 to SECTIONS, and for each of them
# options 1 to OPTIONS[section], gone ones without a name. Changes are appended to a file of the same name in
# the folder of changes, a record each, and played again over the package until they are committed:
#
#     pkg.sec='type'   pkg.sec.opt='value'   +pkg.sec='type'   -pkg.sec   -pkg.sec.opt
#     |pkg.sec.opt='item added'   ~pkg.sec.opt='item removed'   @pkg.sec='new name'
#
# Comparisons put "" beside what comes from outside: awk would compare 1 and 1.0 as numbers.

BEGIN {
	CONFIG = "/etc/config"
	CHANGES = "/tmp/.uci"
	BLANK = " \t\r\v\f"
	PLAIN_RUN = "^[^" BLANK "'\"\\\\#;]+"
	SINGLE_RUN = "^([^']|'\\\\'')*"
	BLANK_RUN = "^[" BLANK "]+"
	CONTROL = "[\001-\010\013\014\016-\037]"  # no tab, line feed, carriage return
	PACKAGE = ""
	exit main()
}

function main(   at, words) {
	for (at = 1; at < ARGC && ARGV[at] ~ /^-/; at++) {
		if (ARGV[at] == "-q") QUIET = 1
		else if (ARGV[at] == "-X") PLAIN_NAMES = 1
		else if (ARGV[at] == "-c") CONFIG = ARGV[++at]
		else if (ARGV[at] == "-t") CHANGES = ARGV[++at]
		else return usage()
	}
	split("", words)
	WORDS = 0
	for (; at < ARGC; at++) words[++WORDS] = ARGV[at]
	return run(words, WORDS)
}

function usage() {
	if (IN_BATCH) return fail("Unknown command")
	warn("Usage: uci [-q] [-X] [-c CONFIGDIR] [-t CHANGESDIR] COMMAND [ARGUMENT]\n" \
		"Commands: add add_list batch changes commit del_list delete export get rename revert set show")
	return 255
}

function warn(text) { print text > "/dev/stderr" }

function fail(text) {
	if (!QUIET) warn("uci: " text)
	return 1
}

function not_found() { return fail("Entry not found") }
function invalid() { return fail("Invalid argument") }

function run(words, count,   command) {
	command = words[1] ""
	if (count == 1) {
		if (command == "batch") return batch()
		if (command ~ /^(changes|commit|export|show)$/) return on_each(command)
	}
	if (command == "add" && count == 3) return add(words[2] "", words[3] "")
	if (count != 2) return usage()
	if (command == "shell") return shell(words[2] "")
	if (command !~ /^(add_list|changes|commit|del_list|delete|export|get|rename|revert|set|show)$/) return usage()
	if (!take_apart(words[2] "")) return fail(REF_ERROR)
	if (command == "changes") return changes(REF_PACKAGE)
	if (!load(REF_PACKAGE)) return 1
	take_apart(words[2] "")  # once more: load() took apart the records of changes
	if (command == "commit") return commit()
	if (command == "export") return export()
	if (command == "get") return get()
	if (command == "show") return show()
	if (command == "delete") return delete_it()
	if (command == "revert") return revert()
	return change(command)
}

function on_each(command,   list, name, names, count, i, code) {
	# commit and changes: what was changed; the others: all there is
	list = "ls -1 " shell_word(command ~ /^ch|^co/ ? CHANGES : CONFIG) " 2> /dev/null"
	while ((list | getline name) > 0) names[++count] = name
	close(list)
	for (i = 1; i <= count; i++) {
		if (names[i] !~ /^[A-Za-z0-9_-]+$/) continue
		if (command == "changes") changes(names[i])
		else if (!load(names[i])) code = 1
		else if (command == "commit") commit()
		else if (command == "export") export()
		else {
			take_apart(names[i])
			show()
		}
	}
	return command == "commit" ? 0 : code + 0
}

function batch(   words, count, i) {
	if (IN_BATCH++) return usage()
	while (1) {
		FILE = "/dev/stdin"
		if (!next_line()) return 0
		count = statement()
		if (count < 0) return parse_error()
		for (i = 1; i <= count; i++) words[i] = WORD[i]
		if (count) run(words, count)
	}
}

# --- references: package[.section[.option]][=value] -------------------------------------------------------

# Take a reference apart into REF_...; 0, and REF_ERROR, where it is none.
function take_apart(text,   at) {
	REF_PACKAGE = REF_SECTION = REF_OPTION = REF_VALUE = REF_ERROR = ""
	at = index(text, "=")
	REF_HAS_VALUE = at > 0
	if (at) {
		REF_VALUE = substr(text, at + 1)
		text = substr(text, 1, at - 1)
	}
	at = index(text, ".")
	REF_PACKAGE = at ? substr(text, 1, at - 1) : text
	if (REF_PACKAGE == "") REF_ERROR = "Parse error"
	if (!at || REF_ERROR != "") return REF_ERROR == ""
	text = substr(text, at + 1)
	at = index(text, ".")
	REF_SECTION = at ? substr(text, 1, at - 1) : text
	REF_OPTION = at ? substr(text, at + 1) : ""
	if (at && !is_name(REF_OPTION)) REF_ERROR = "Parse error"
	else if (!is_name(REF_SECTION) && !is_position(REF_SECTION)) REF_ERROR = "Invalid argument"
	return REF_ERROR == ""
}

function is_position(text) { return text ~ /^@[^[]*\[-?[0-9]+\]$/ }
function is_name(text) { return text ~ /^[A-Za-z0-9_]+$/ }
function is_type(text) { return text ~ /^[A-Za-z0-9_!$%&()*+,\/:<=>?@^`{|}~.-]+$/ }

function find_section(name,   at, type, number, s, order) {
	if (!is_position(name)) return name in BY_NAME ? BY_NAME[name] : 0
	at = index(name, "[")
	type = substr(name, 2, at - 2)
	number = substr(name, at + 1, length(name) - at - 1) + 0
	for (s = 1; s <= SECTIONS; s++)
		if (!GONE[s] && (type == "" || TYPE[s] "" == type)) order[++order[0]] = s
	number += number < 0 ? order[0] + 1 : 1
	return number >= 1 && number <= order[0] ? order[number] : 0
}

# --- files: words, statements, packages -------------------------------------------------------------------

function next_line() {
	LINE = ""
	if ((getline LINE < FILE) <= 0) return 0
	LINE_NUMBER++
	return 1
}

# Join on the next line, after a word that goes on there.
function go_on(reason) {
	if (next_line()) return 1
	ERROR = reason
	return 0
}

function single_quoted(   piece, whole) {
	LINE = substr(LINE, 2)
	while (1) {
		match(LINE, SINGLE_RUN)
		piece = substr(LINE, 1, RLENGTH)
		LINE = substr(LINE, RLENGTH + 1)
		gsub(/'\\''/, "'", piece)
		whole = whole piece
		if (LINE != "") break
		whole = whole "\n"
		if (!go_on("EOF with unterminated '")) break
	}
	LINE = substr(LINE, 2)
	return whole
}

function double_quoted(   whole, first) {
	LINE = substr(LINE, 2)
	while (1) {
		match(LINE, /^[^"\\]*/)
		whole = whole substr(LINE, 1, RLENGTH)
		LINE = substr(LINE, RLENGTH + 1)
		first = substr(LINE, 1, 1)
		if (first == "\\") {
			whole = whole escaped()
			continue
		}
		if (first == "\"") break
		whole = whole "\n"
		if (!go_on("EOF with unterminated \"")) break
	}
	LINE = substr(LINE, 2)
	return whole
}

# The character behind a backslash; nothing where that ends the line, which goes on with the next one then.
function escaped(   second) {
	second = substr(LINE, 2, 1)
	LINE = substr(LINE, 3)
	if (second == "") next_line()
	return second
}

function read_word(   whole, first) {
	while (ERROR == "") {
		first = substr(LINE, 1, 1)
		if (first == "'") whole = whole single_quoted()
		else if (first == "\"") whole = whole double_quoted()
		else if (first == "\\") whole = whole escaped()
		else if (first == "#" || first == ";") LINE = ""
		else if (match(LINE, PLAIN_RUN)) {
			whole = whole substr(LINE, 1, RLENGTH)
			LINE = substr(LINE, RLENGTH + 1)
		} else return whole
	}
	return whole
}

# Read the words of a statement that begins in LINE into WORD; their number, -1 for an ERROR.
function statement(   count) {
	ERROR = ""
	split("", WORD)
	while (1) {
		sub(BLANK_RUN, "", LINE)
		if (LINE == "" || LINE ~ /^#/) return count + 0
		WORD[++count] = read_word() ""
		if (ERROR != "") return -1
	}
}

function parse_error() { return fail("Parse error (" ERROR ") at line " LINE_NUMBER) }

# Load a package with its changes; 0, after an error, for one that is not there or cannot be read.
function load(package,   count) {
	if (package == PACKAGE) return 1
	forget()
	FILE = CONFIG "/" package
	if (package ~ /\// || (getline LINE < FILE) < 0) {
		not_found()
		return 0
	}
	close(FILE)
	LINE_NUMBER = 0
	while (ERROR == "" && next_line()) {
		count = statement()
		if (count > 0) take_statement(count)
	}
	close(FILE)
	if (ERROR != "") {
		parse_error()
		return 0
	}
	PACKAGE = package
	replay()
	return 1
}

function forget() {
	PACKAGE = ERROR = ""
	SECTIONS = NUMBERED = 0
	split("", NAME); split("", TYPE); split("", ANONYMOUS); split("", GONE); split("", BY_NAME)
	split("", OPTIONS); split("", OPTION); split("", BY_OPTION); split("", IS_LIST); split("", ITEMS)
	split("", ITEM)
}

function take_statement(count,   kind, s) {
	kind = WORD[1] ""
	if (kind == "package") return
	if (kind !~ /^(config|option|list)$/ || count < 2) ERROR = "invalid command"
	else if (kind != "config" && !SECTIONS) ERROR = "option/list command found before the first section"
	else if (WORD[2] == "") ERROR = "insufficient arguments"
	else if (count > 3) ERROR = "too many arguments"
	else if (kind == "config" && !is_type(WORD[2])) ERROR = "invalid character in type field"
	else if (kind == "config" ? WORD[3] != "" && !is_name(WORD[3]) : !is_name(WORD[2]))
		ERROR = "invalid character in name field"
	else if (kind == "config") {
		s = WORD[3] != "" && (WORD[3] in BY_NAME) ? BY_NAME[WORD[3]] : new_section(WORD[3] "", WORD[2] "")
		IN_SECTION = s
	} else if (kind == "list") add_item(IN_SECTION, WORD[2] "", WORD[3] "")
	else set_option(IN_SECTION, WORD[2] "", WORD[3] "")
}

function replay(   op) {
	FILE = CHANGES "/" PACKAGE
	ERROR = ""
	while (next_line()) {
		if (statement() != 1 || !split_record(WORD[1])) continue
		apply(RECORD_OP, find_section(REF_SECTION), REF_SECTION, REF_OPTION, REF_VALUE)
	}
	close(FILE)
}

# A record of changes: RECORD_OP and the parts of its reference.
function split_record(text) {
	RECORD_OP = text ~ /^[-+|~@^]/ ? substr(text, 1, 1) : "="
	return take_apart(RECORD_OP == "=" ? text : substr(text, 2))
}

function quoted(text) {
	gsub(/'/, "'\\''", text)
	return "'" text "'"
}

function shell_word(text) { return quoted(text) }

# --- what is in memory ------------------------------------------------------------------------------------

# The low 16 bits of Bernstein's hash of the type: part of an unnamed section's name.
function type_hash(type,   i, hash) {
	hash = 5381
	for (i = 1; i <= length(type); i++) hash = (hash * 33 + CODE[substr(type, i, 1)]) % 65536
	return hash
}

function unnamed_name(type,   i) {
	if (!(" " in CODE)) for (i = 1; i < 128; i++) CODE[sprintf("%c", i)] = i
	return sprintf("cfg%02x%04x", ++NUMBERED, type_hash(type))
}

# Add a section at the end; name: "" for an unnamed one.
function new_section(name, type) {
	NUMBERED++
	SECTIONS++
	ANONYMOUS[SECTIONS] = name == ""
	if (name == "") name = unnamed_name(type)
	NAME[SECTIONS] = name
	TYPE[SECTIONS] = type
	GONE[SECTIONS] = 0
	OPTIONS[SECTIONS] = 0
	BY_NAME[name] = SECTIONS
	return SECTIONS
}

function delete_section(s) {
	GONE[s] = 1
	delete BY_NAME[NAME[s]]
}

function find_option(s, name) { return (s, name) in BY_OPTION ? BY_OPTION[s, name] : 0 }

function delete_option(s, name) {
	OPTION[s, BY_OPTION[s, name]] = ""
	delete BY_OPTION[s, name]
}

function new_option(s, name, is_list,   i) {
	if (find_option(s, name)) delete_option(s, name)
	i = ++OPTIONS[s]
	OPTION[s, i] = name
	IS_LIST[s, i] = is_list
	ITEMS[s, i] = 0
	BY_OPTION[s, name] = i
	return i
}

function set_option(s, name, value,   i) {
	if (value == "") {
		if (find_option(s, name)) delete_option(s, name)
		return
	}
	i = new_option(s, name, 0)
	ITEM[s, i, ++ITEMS[s, i]] = value
}

function add_item(s, name, value,   old, i, k) {
	old = find_option(s, name)
	i = old
	if (!old || !IS_LIST[s, old]) i = new_option(s, name, 1)
	if (old && old != i) ITEM[s, i, ++ITEMS[s, i]] = ITEM[s, old, 1]
	ITEM[s, i, ++ITEMS[s, i]] = value
}

function is_list(s, name) { return find_option(s, name) && IS_LIST[s, find_option(s, name)] }

function del_item(s, name, value,   i, k, kept) {
	if (!is_list(s, name)) return
	i = find_option(s, name)
	for (k = 1; k <= ITEMS[s, i]; k++)
		if (ITEM[s, i, k] "" != value "") ITEM[s, i, ++kept] = ITEM[s, i, k]
	ITEMS[s, i] = kept + 0
	if (!kept) delete_option(s, name)
}

function rename_it(s, option, name,   i) {
	if (option == "") {
		delete BY_NAME[NAME[s]]
		NAME[s] = name
		ANONYMOUS[s] = 0
		BY_NAME[name] = s
		return
	}
	i = BY_OPTION[s, option]
	delete BY_OPTION[s, option]
	OPTION[s, i] = name
	BY_OPTION[s, name] = i
}

# Make a change in memory. s: the section, 0 where there is none yet.
function apply(op, s, section, option, value) {
	if (op == "+" || (op == "=" && option == "" && !s)) {
		s = new_section(section, value)
		ANONYMOUS[s] = op == "+"
	} else if (!s) return
	else if (op == "=" && option == "") TYPE[s] = value
	else if (op == "=") set_option(s, option, value)
	else if (op == "|") add_item(s, option, value)
	else if (op == "~") del_item(s, option, value)
	else if (op == "-" && option == "") delete_section(s)
	else if (op == "@") rename_it(s, option, value)
	else if (op == "-" && find_option(s, option)) delete_option(s, option)
}

# --- commands: each gives its exit code -------------------------------------------------------------------

# Write a change into the folder of changes and make it in memory.
function record(op, s, section, option, value,   file, text) {
	if (!FOLDER_MADE++) system("mkdir -p -m 0700 " shell_word(CHANGES))
	file = CHANGES "/" PACKAGE
	text = (op == "=" ? "" : op) PACKAGE "." section (option == "" ? "" : "." option)
	print (op == "-" ? text : text "=" quoted(value)) >> file
	close(file)
	apply(op, s, section, option, value)
	return 0
}

function add(package, type,   s, name) {
	if (!take_apart(package) || REF_SECTION != "" || REF_HAS_VALUE || !is_type(type)) return invalid()
	if (!load(package)) return 3  # as the genuine one has it
	NUMBERED++
	name = unnamed_name(type)
	NUMBERED -= 2  # which apply() counts once again
	record("+", 0, name, "", type)
	print name
	return 0
}

function change(command,   s, name) {
	if (!REF_HAS_VALUE || REF_SECTION == "") return invalid()
	s = find_section(REF_SECTION)
	name = s ? NAME[s] "" : REF_SECTION
	if (REF_VALUE ~ CONTROL) return fail("Parse error")
	if (command == "set") {
		if (REF_OPTION == "") {
			if (REF_VALUE == "") return s ? record("-", s, name, "", "") : 0
			if (!is_type(REF_VALUE) || !is_name(name)) return invalid()
			return record("=", s, name, "", REF_VALUE)
		}
		if (!s) return invalid()
		if (REF_VALUE != "") return record("=", s, name, REF_OPTION, REF_VALUE)
		return find_option(s, REF_OPTION) ? record("-", s, name, REF_OPTION, "") : 0
	}
	if (command == "rename") {
		if (!s || (REF_OPTION != "" && !find_option(s, REF_OPTION))) return not_found()
		if (!is_name(REF_VALUE)) return invalid()
		return record("@", s, name, REF_OPTION, REF_VALUE)
	}
	if (!s || REF_OPTION == "") return invalid()
	if (command == "add_list") return record("|", s, name, REF_OPTION, REF_VALUE)
	return is_list(s, REF_OPTION) ? record("~", s, name, REF_OPTION, REF_VALUE) : 0
}

function delete_it(   s) {
	if (REF_SECTION == "" || REF_HAS_VALUE) return invalid()
	s = find_section(REF_SECTION)
	if (!s || (REF_OPTION != "" && !find_option(s, REF_OPTION))) return not_found()
	return record("-", s, NAME[s] "", REF_OPTION, "")
}

function get(   s, i, k, item, text) {
	if (REF_HAS_VALUE) return invalid()
	if (REF_SECTION == "") return 0
	s = find_section(REF_SECTION)
	if (!s) return not_found()
	if (REF_OPTION == "") {
		print TYPE[s]
		return 0
	}
	i = find_option(s, REF_OPTION)
	if (!i) return not_found()
	for (k = 1; k <= ITEMS[s, i]; k++) {
		item = ITEM[s, i, k]
		text = text (k > 1 ? " " : "") (IS_LIST[s, i] && item ~ /[ \t\r\n]/ ? quoted(item) : item)
	}
	print text
	return 0
}

function shown_name(s,   i, before) {
	if (!ANONYMOUS[s] || PLAIN_NAMES || REF_SECTION != "") return NAME[s]
	for (i = 1; i < s; i++) before += !GONE[i] && TYPE[i] "" == TYPE[s] ""
	return "@" TYPE[s] "[" before + 0 "]"
}

function items_text(s, i,   k, text) {
	for (k = 1; k <= ITEMS[s, i]; k++) text = text (k > 1 ? " " : "") quoted(ITEM[s, i, k])
	return text
}

function show(   s, wanted, i) {
	if (REF_HAS_VALUE) return invalid()
	wanted = REF_SECTION == "" ? 0 : find_section(REF_SECTION)
	if (REF_SECTION != "" && !wanted) return not_found()
	if (REF_OPTION != "" && !find_option(wanted, REF_OPTION)) return not_found()
	for (s = 1; s <= SECTIONS; s++)
		if (!GONE[s] && (!wanted || s == wanted)) show_section(s)
	return 0
}

function show_section(s,   i, name) {
	name = PACKAGE "." shown_name(s)
	if (REF_OPTION == "") print name "=" TYPE[s]
	for (i = 1; i <= OPTIONS[s]; i++)
		if (OPTION[s, i] != "" && (REF_OPTION == "" || OPTION[s, i] "" == REF_OPTION))
			print name "." OPTION[s, i] "=" items_text(s, i)
}

function write_sections(file,   s, i, k) {
	for (s = 1; s <= SECTIONS; s++) {
		if (GONE[s]) continue
		print "\nconfig " TYPE[s] (ANONYMOUS[s] ? "" : " '" NAME[s] "'") > file
		for (i = 1; i <= OPTIONS[s]; i++)
			if (OPTION[s, i] != "")
				for (k = 1; k <= ITEMS[s, i]; k++)
					print "\t" (IS_LIST[s, i] ? "list " : "option ") OPTION[s, i] " " quoted(ITEM[s, i, k]) > file
	}
	print "" > file
}

function export() {
	print "package " PACKAGE
	write_sections("/dev/stdout")
	return 0
}

# The package's file is replaced as a whole, and keeps its mode and owner.
function commit(   file, fresh, staged) {
	staged = CHANGES "/" PACKAGE
	if (system("test -s " shell_word(staged)) != 0) return 0
	file = CONFIG "/" PACKAGE
	fresh = CONFIG "/." PACKAGE ".uci"
	if (system("cp -p " shell_word(file) " " shell_word(fresh)) != 0) return fail("I/O error")
	write_sections(fresh)
	close(fresh)
	if (system("mv -f " shell_word(fresh) " " shell_word(file)) != 0) return fail("I/O error")
	system("rm -f " shell_word(staged))
	PACKAGE = ""  # unnamed sections have other names in the file
	return 0
}

function changes(package,   sign, mark, name) {
	FILE = CHANGES "/" package
	while (next_line()) {
		if (statement() != 1 || !split_record(WORD[1])) continue
		name = REF_PACKAGE "." REF_SECTION (REF_OPTION == "" ? "" : "." REF_OPTION)
		if (RECORD_OP == "-") print "-" name
		else print name (RECORD_OP == "|" ? "+=" : RECORD_OP == "~" ? "-=" : "=") quoted(REF_VALUE)
	}
	close(FILE)
	return 0
}

function revert(   section, option, kept, count, i, file, s) {
	s = REF_SECTION == "" ? 0 : find_section(REF_SECTION)
	section = s ? NAME[s] "" : REF_SECTION
	option = REF_OPTION
	file = FILE = CHANGES "/" PACKAGE
	while (section != "" && next_line()) {
		if (statement() != 1 || !split_record(WORD[1])) continue
		if (REF_SECTION == section && (option == "" || REF_OPTION == option)) continue
		kept[++count] = (RECORD_OP == "=" ? "" : RECORD_OP) REF_PACKAGE "." REF_SECTION
		if (REF_OPTION != "") kept[count] = kept[count] "." REF_OPTION
		if (REF_HAS_VALUE) kept[count] = kept[count] "=" quoted(REF_VALUE)
	}
	close(file)
	system("rm -f " shell_word(file))
	for (i = 1; i <= count; i++) print kept[i] >> file
	close(file)
	PACKAGE = ""
	return 0
}

# For config_load() in /lib/functions.sh: a package as assignments.
function shell(package,   s, i, k, names, name, text) {
	if (!take_apart(package)) return fail(REF_ERROR)
	if (!load(package)) return 1
	for (s = 1; s <= SECTIONS; s++) if (!GONE[s]) names = names (names == "" ? "" : " ") NAME[s]
	print "CONFIG_SECTIONS=" quoted(names)
	for (s = 1; s <= SECTIONS; s++) {
		if (GONE[s]) continue
		print "CONFIG_" NAME[s] "_TYPE=" quoted(TYPE[s])
		for (i = 1; i <= OPTIONS[s]; i++) {
			if (OPTION[s, i] == "") continue
			name = "CONFIG_" NAME[s] "_" OPTION[s, i]
			text = ""
			for (k = 1; k <= ITEMS[s, i]; k++) {
				text = text (k > 1 ? " " : "") ITEM[s, i, k]
				if (IS_LIST[s, i]) print name "_ITEM" k "=" quoted(ITEM[s, i, k])
			}
			if (IS_LIST[s, i]) print name "_LENGTH=" ITEMS[s, i]
			print name "=" quoted(text)
		}
	}
	return 0
}
