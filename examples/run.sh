#!/bin/sh
# Starts the echo backend and Sheave on a folder, prints what to try, and ends both on Ctrl-C.
set -eu
folder=${1:-examples/routes}
target/release/sheave echo --listen 127.0.0.1:9001 &
echo=$!
trap 'kill "$echo" 2>/dev/null || true' EXIT
cat <<TEXT

  ws://localhost:8080/echo          echo, in clear
  wss://localhost:8443/echo         echo, over TLS (certificate made at start: tell your client not to verify)
  http://localhost:9090/sessions    who is connected
  http://localhost:9090/metrics     what has happened
  http://localhost:9090/table       the live routing table

  Try:   npx wscat -c ws://localhost:8080/echo      or      python3 -m websockets ws://localhost:8080/echo
  Edit a file in $folder and it is live in under a second. Ctrl-C ends it.

TEXT
target/release/sheave serve "$folder" --listen 127.0.0.1:8080 --listen-tls 127.0.0.1:8443 --admin 127.0.0.1:9090 &
sheave=$!
trap 'kill "$sheave" "$echo" 2>/dev/null || true' EXIT
trap 'kill -TERM "$sheave" 2>/dev/null || true' INT TERM
while kill -0 "$sheave" 2>/dev/null; do wait "$sheave" || true; done
