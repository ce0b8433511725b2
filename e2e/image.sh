#!/bin/sh
# Puts the backend into an image of its own, with the libraries it loads: the very build that the suite's tests use, so
# that nothing is built twice.
set -eu
cd "$(dirname "$0")/.."
cargo test --quiet -p sheave -p sheave-e2e --test itself --no-run
target=${CARGO_TARGET_DIR:-target}
folder=$target/e2e-image
rm -rf "$folder"
mkdir -p "$folder/root"
cp "$target/debug/e2e-backend" "$folder/root/e2e-backend"
strip "$folder/root/e2e-backend"
# Each where the program looks for it.
ldd "$folder/root/e2e-backend" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$folder/root$(dirname "$library")"
  cp -L "$library" "$folder/root$library"
done
docker build --quiet --tag "${E2E_IMAGE:-sheave-e2e:dev}" --file e2e/Dockerfile "$folder" >/dev/null
