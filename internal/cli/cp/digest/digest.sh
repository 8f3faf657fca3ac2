LC_ALL=C; export LC_ALL
if command -v sha256sum >/dev/null 2>&1; then tool=sha256sum
elif command -v shasum >/dev/null 2>&1; then tool='shasum -a 256'
elif command -v openssl >/dev/null 2>&1; then tool='openssl dgst -sha256 -r'
else exit 3
fi
if [ -n "$1" ]; then exec xargs -0 sh -c 'head -c "$1" <"$2" | $0' "$tool" "$1"
fi
exec xargs -0 $tool
