#!/bin/sh
# What the image promises: under 20 MB, one static program, no shell, not root, any user, a read-only root, names that
# resolve, authorities that are found. Usage: tests/image.sh sheave:dev
set -eu
image=$1
program=target/rootfs/sheave
network=sheave-check-image-$$
fail() { echo "check-image: $*" >&2; exit 1; }
hardened="--read-only --cap-drop ALL --security-opt no-new-privileges"

docker image inspect "$image" >/dev/null 2>&1 || fail "there is no $image: make image"
size=$(docker image inspect -f '{{.Size}}' "$image")
[ "$size" -lt 20000000 ] || fail "$image has $size bytes; 20,000,000 are allowed"
user=$(docker image inspect -f '{{.Config.User}}' "$image")
[ "$user" = 65532:65532 ] || fail "$image runs as ${user:-root}, not as 65532"
ldd "$program" 2>&1 | grep -Eq 'statically linked|not a dynamic' || fail "$program is not static: $(ldd "$program")"
# Everything in it: the program, the authorities, and what Docker puts into every container.
holder=$(docker create "$image")
files=$(docker export "$holder" | tar -t | grep -v '/$' | sort | tr '\n' ' ')
docker rm "$holder" >/dev/null
wanted=".dockerenv dev/console etc/hostname etc/hosts etc/mtab etc/resolv.conf etc/ssl/certs/ca-certificates.crt sheave "
[ "$files" = "$wanted" ] || fail "$image contains: $files"

docker network create "$network" >/dev/null
trap 'docker rm -f "$network" >/dev/null 2>&1; docker network rm "$network" >/dev/null' EXIT
# shellcheck disable=SC2086 # the options are words
docker run -d --name "$network" --network "$network" --network-alias echo.test $hardened --user 12345 "$image" \
  echo --listen :8080 >/dev/null
for user in 65532 12345:54321; do
  # shellcheck disable=SC2086
  docker run --rm --network "$network" $hardened --user "$user" "$image" connect ws://echo.test:8080/ ||
    fail "as $user: no echo by a name of the DNS"
done
address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$network")
# shellcheck disable=SC2086
docker run --rm --network "$network" --add-host "hosts.test:$address" $hardened "$image" connect ws://hosts.test:8080/ ||
  fail "no echo by a name of /etc/hosts"
# A plain server is no TLS server; that it gets as far as saying so shows that the authorities were found.
# shellcheck disable=SC2086
said=$(docker run --rm --network "$network" $hardened "$image" connect wss://echo.test:8080/ --timeout 1s 2>&1) || true
case $said in *"no TLS with echo.test"*) ;; *) fail "the authorities are not found: $said" ;; esac
echo "check-image: $image is $size bytes, static, without a shell, and runs as any user on a read-only root"
