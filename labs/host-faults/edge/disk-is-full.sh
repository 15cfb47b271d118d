# Fails unless steer has met the end of its disk, and said so once.
said=$(grep -c 'No space left on device' "$1/fra-steer.err")
test "$said" -eq 1 || { echo "said $said times that there is no space left" >&2 && exit 1; }
