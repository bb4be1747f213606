# The sample settings (config/feedmill.cfg) and the page with a mark go in, the whole page comes out.
#   awk -f settings.awk config/feedmill.cfg feedmill.cfg.5.in
FILENAME ~ /\.cfg$/ {
	if ($0 ~ /^[a-z]+:$/) {
		group = substr($0, 1, length($0) - 1) "."
	} else if ($0 ~ /^};/) {
		group = ""
	} else if ($0 ~ /^\t?# /) {
		words = $0
		sub(/^\t?# /, "", words)
		gsub(/\\/, "\\e", words)
		gsub(/`/, "", words)
	} else if ($0 ~ /^\t?[a-z_]+ = /) {
		text = text ".It Li " group $1 "\n" words "\n"
	}
	next
}
/^@SETTINGS@$/ {
	printf "%s", text
	next
}
{ print }
