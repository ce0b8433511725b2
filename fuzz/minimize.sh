#!/bin/sh
# Writes the seeds of one target that has been built anew: those that somebody named stay, and of the others and of its
# corpus come the fewest that reach the same edges, those that reach most first, up to 60 files and 80 KB. `sh fuzz/minimize.sh
# TARGET`.
set -eu
cd "$(dirname "$0")"
target=$1
program=${CARGO_TARGET_DIR:-../target}/debug/$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "corpus/$target" "$work/kept" "$work/others"
for file in "seeds/$target"/*; do
  if basename "$file" | grep -qE '^[0-9a-f]{40}$'; then mv "$file" "$work/others"; else cp "$file" "$work/kept"; fi
done
if [ "$target" = yaml ]; then
  for case in ../tests/golden/*/; do cp "$case/in.yaml" "$work/kept/golden-$(basename "$case")"; done
fi
ls "$work/kept" >"$work/before"
"$program" -set_cover_merge=1 -max_len=4096 -timeout=10 "$work/kept" "$work/others" "corpus/$target" >"$work/log" 2>&1 ||
  { tail -20 "$work/log"; exit 1; }
size=$(cat "seeds/$target"/* | wc -c) count=$(find "seeds/$target" -type f | wc -l)
(cd "$work/kept" && ls -tr) | grep -vxF -f "$work/before" | while read -r name; do
  size=$((size + $(wc -c <"$work/kept/$name"))) count=$((count + 1))
  [ "$size" -le 80000 ] && [ "$count" -le 60 ] || break
  cp "$work/kept/$name" "seeds/$target/$name"
done
printf '%-14s %3s files %7s bytes\n' "$target" "$(find "seeds/$target" -type f | wc -l)" "$(cat "seeds/$target"/* | wc -c)"
