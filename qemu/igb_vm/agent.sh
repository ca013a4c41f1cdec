#!/bin/sh
# Serves one virtio port, one request after the other. Numbers are decimal, sizes in bytes, data follows the line raw.
#   run MERGED SIZE  + SIZE bytes of shell script  -> done STATUS SIZE SIZE  + stdout + stderr (all in the first if MERGED)
#   put MODE SIZE PATH + SIZE bytes                -> done STATUS SIZE 0     + what went wrong
#   get PATH                                       -> done STATUS SIZE 0     + contents, or what went wrong
place=/run/$1
mkdir -p "$place"
exec 3<> "$2"
cd /root

take() { dd bs=65536 iflag=fullblock,count_bytes count="$1" <&3 2>/dev/null; }

# The size is asked first, and no more than that sent: something in the background may still write.
answer() {
    out=$(stat -c %s "$2") err=0
    [ -n "$3" ] && err=$(stat -c %s "$3")
    echo "done $1 $out $err" >&3
    [ "$out" = 0 ] || dd bs=65536 iflag=fullblock,count_bytes count="$out" if="$2" >&3 2>/dev/null
    [ "$err" = 0 ] || dd bs=65536 iflag=fullblock,count_bytes count="$err" if="$3" >&3 2>/dev/null
}

echo ready >&3
while read -r verb first second rest <&3; do
    case $verb in
        run)
            take "$second" > "$place/script"
            rm -f "$place/out" "$place/err"
            if [ "$first" = 1 ]; then
                setsid /bin/sh "$place/script" > "$place/out" 2>&1 < /dev/null 3>&- &
            else
                setsid /bin/sh "$place/script" > "$place/out" 2> "$place/err" < /dev/null 3>&- &
            fi
            echo $! > "$place/pid"
            wait $!
            status=$?
            if [ "$first" = 1 ]; then answer $status "$place/out"; else answer $status "$place/out" "$place/err"; fi
            ;;
        put)
            status=0
            take "$second" > "$place/data"
            { mkdir -p "$(dirname "$rest")" && mv "$place/data" "$rest" && chmod "$first" "$rest"; } 2> "$place/err" || status=1
            answer $status "$place/err"
            ;;
        get)
            path="$first${second:+ $second}${rest:+ $rest}"
            if cat < "$path" > "$place/data" 2> "$place/err"; then answer 0 "$place/data"; else answer 1 "$place/err"; fi
            rm -f "$place/data"
            ;;
    esac
done
