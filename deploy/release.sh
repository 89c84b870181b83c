#!/usr/bin/env bash
# Builds what is released for one target into a folder: a static executable in an archive, what it is made of (CycloneDX),
# and the SHA-256 of both.
#
#   deploy/release.sh [TARGET] [FOLDER]        x86_64-unknown-linux-musl (default) or aarch64-unknown-linux-musl; target/release-files
#
# Wants rustup, a C compiler for the target (Debian: musl-tools; for another machine's processor run it there), and
# cargo-cyclonedx, which is installed where it lacks.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-x86_64-unknown-linux-musl}
folder=$(mkdir -p "${2:-target/release-files}" && cd "${2:-target/release-files}" && pwd)
version=$(cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"name":"keyrotate","version":"\([^"]*\)".*/\1/p')
name=keyrotate-$version-${target%%-unknown-linux-musl}
[ -n "$version" ] || { echo "no package \`keyrotate\` in this workspace" >&2; exit 1; }

rustup target add "$target"
# The same commit gives the same bytes: no path of this machine, no time but the commit's.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
export RUSTFLAGS="--remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# Names of functions stay for backtraces, lines do not: they are two thirds of the file.
export CARGO_PROFILE_RELEASE_STRIP=debuginfo
cargo build --release --locked --target "$target" --package keyrotate
executable=target/$target/release/keyrotate

# It must need nothing but a kernel.
if ldd "$executable" 2>/dev/null | grep -q '=>'; then
    echo "$executable is not static: $(ldd "$executable")" >&2
    exit 1
fi

command -v cargo-cyclonedx >/dev/null || cargo install --quiet --locked cargo-cyclonedx
cargo cyclonedx --quiet --manifest-path cli/Cargo.toml --target "$target" --format json --override-filename "$name.cdx"
# One is written beside each package of this workspace, with this machine's path in it.
sed "s|$PWD|/src|g" "cli/$name.cdx.json" >"$folder/$name.cdx.json"
rm -- */"$name.cdx.json"

# The same names, owners and times each time.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --transform "s|.*/|$name/|" \
    "$executable" "$PWD/LICENSE" "$PWD/README.md" 2>/dev/null | gzip -n >"$folder/$name.tar.gz"
(cd "$folder" && sha256sum "$name.tar.gz" "$name.cdx.json" >"$name.sha256")
cat "$folder/$name.sha256"
