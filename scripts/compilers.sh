# Sourced by the other scripts: the versions of clang that they accept, in order of preference.
sanitizer_clangs='14 15 16 17 18 19'   # the sanitized half of the suite and its fuzz targets
libcxx_clangs='16 17 18 19'            # with libc++, the nearest to a Mac's compiler

# first_clang VERSIONS: prints the first one that is installed, as "14"; fails where there is none.
first_clang() {
  local version
  for version in $1; do
    if command -v "clang++-$version" >/dev/null; then echo "$version"; return; fi
  done
  return 1
}
