#!/usr/bin/env bash
# Fetches what the daemon's pages use of npm packages, at the versions of
# daemon/internal/site/web/vendor/assets.json, and errors when a file is not what it was.
set -euo pipefail
cd "$(dirname "$0")/../daemon/internal/site/web/vendor"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
node -e '
  for (const a of JSON.parse(require("fs").readFileSync("assets.json"))) console.log([a.package, a.version, a.from, a.file, a.sha256].join(" "));
' | while read -r package version from file sha; do
  if [ ! -d "$tmp/$package-$version" ]; then
    mkdir -p "$tmp/$package-$version"
    (cd "$tmp" && npm pack --silent "$package@$version" </dev/null | xargs -I{} tar xzf {} -C "$package-$version" --strip-components=1)
  fi
  cp "$tmp/$package-$version/$from" "$file"
  chmod 644 "$file"
  echo "$sha  $file" | sha256sum --check --quiet
done
echo "daemon/internal/site/web/vendor is as assets.json says."
