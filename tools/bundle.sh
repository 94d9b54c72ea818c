#!/usr/bin/env bash
# Turns a build into one folder that runs on another machine without an installation.
#
#   tools/bundle.sh [--preset NAME] [--out DIR] [--configs DIR] [--tokenizer FILE] [--goldens DIR] [--no-data]
#                   [--no-check] [PROGRAM…]
#
# Builds facet and the test programs that tools/check_gpu.sh runs (or the PROGRAMs named) in a static preset
# (cuda-static unless given: the CUDA runtime, libstdc++ and all libraries inside; a GPU needs nothing but its driver),
# strips them and puts them into DIR (build/bundle unless given) and DIR.tar.gz:
#
#   bin/       the programs; bin/models points to models/
#   models/    Fable
#   tests/data what the tests compare with
#   tools/     check_gpu.sh and compare_transformers.py
#   configs/   what check_gpu.sh makes a model of the true shape from: *config.json of the folder given by --configs,
#              and the tokenizer.json (or .json.xz) given by --tokenizer
#   shared/    reference checkpoints beyond those of tests/data, if --goldens names their folder
#   BUNDLE     commit, preset, date, the newest glibc that a program asks for
#
# --no-data leaves models/ and tests/data out: FACET_SOURCE then names a checkout that has them.
# Afterwards each program is looked at: it may need glibc and nothing else. Where the system lets a user make a
# root of his own, facet also runs there, with nothing but glibc beside it. --no-check leaves both out.

set -euo pipefail

root=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
preset=cuda-static out=$root/build/bundle configs='' tokenizer='' goldens='' data=1 check=1 programs=()
default_programs=(facet cuda_products ops_test golden_test engine_fable_test cuda_repeat_test
                  cuda_few_tokens_test cuda_fault_test serve_test)
glibc='ld-linux-[^ ]*|libc|libm|libdl|librt|libpthread|libresolv|libutil|linux-vdso'

say() { printf 'bundle: %s\n' "$*" >&2; }
wants_value() { (($# > 1)) || { say "$1 wants a value after it"; exit 64; }; }

while (($#)); do
  case $1 in
    --preset) wants_value "$@"; preset=$2; shift ;;
    --out) wants_value "$@"; out=$2; shift ;;
    --configs) wants_value "$@"; configs=$2; shift ;;
    --tokenizer) wants_value "$@"; tokenizer=$2; shift ;;
    --goldens) wants_value "$@"; goldens=$2; shift ;;
    --no-data) data=0 ;;
    --no-check) check=0 ;;
    --help) sed -n '2,/^$/s/^# \?//p' "${BASH_SOURCE[0]}"; exit ;;
    -*) say "unknown option $1; --help lists them"; exit 64 ;;
    *) programs+=("$1") ;;
  esac
  shift
done
((${#programs[@]})) || programs=("${default_programs[@]}")
build=$root/build/$preset

build_programs() {
  [[ -e $build/CMakeCache.txt ]] || (cd "$root" && cmake --preset "$preset" -DFACET_TESTS=ON >/dev/null)
  cmake --build "$build" --target "${programs[@]}"
}

fill() {
  rm -rf "$out"
  mkdir -p "$out"/{bin,tools}
  local program
  for program in "${programs[@]}"; do strip -o "$out/bin/$program" "$build/bin/$program"; done
  cp "$root"/tools/{check_gpu.sh,compare_transformers.py} "$out/tools"
  ln -s ../models "$out/bin/models"
  if ((data)); then
    mkdir -p "$out/tests" "$out/models"
    cp -r "$root/models/fable" "$out/models/fable"
    cp -r "$root/tests/data" "$out/tests/data"
  fi
  mkdir "$out/configs"
  [[ -z $configs ]] || cp "$configs"/*config.json "$out/configs"
  [[ -z $tokenizer ]] || cp "$tokenizer" "$out/configs"
  if [[ -n $goldens ]]; then
    mkdir "$out/shared"
    cp -r "$goldens" "$out/shared/goldens"
  fi
  chmod -R u+w "$out"
}

# The shared libraries of a program that are no part of glibc.
foreign_libraries() {
  ldd "$1" | awk '{ print $1 }' | sed 's|.*/||; s|\.so.*||' | grep -vxE "$glibc" || true
}

newest_glibc() {
  local program
  for program in "$out"/bin/*; do
    [[ ! -f $program ]] || objdump -T "$program" | grep -oE 'GLIBC_[0-9.]+'
  done | sort -uV | tail -n 1
}

describe() {
  printf 'commit  %s\n' "$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
  printf 'preset  %s\n' "$preset"
  printf 'built   %s\n' "$(date -u +%Y-%m-%dT%H:%MZ)"
  printf 'needs   %s\n' "$(newest_glibc)"
}

check_libraries() {
  local program foreign status=0
  for program in "$out"/bin/*; do
    [[ -f $program ]] || continue
    foreign=$(foreign_libraries "$program")
    [[ -z $foreign ]] || { say "${program##*/} needs $(tr '\n' ' ' <<<"$foreign")beside glibc"; status=1; }
  done
  return $status
}

# facet in a root that holds glibc, a null device and the bundle.
check_alone() {
  [[ -x $out/bin/facet ]] || return 0
  local bare library
  bare=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$bare'" RETURN
  for library in $(ldd "$out/bin/facet" | grep -oE '/[^ ]+'); do
    mkdir -p "$bare${library%/*}"
    cp -L "$library" "$bare$library"
  done
  mkdir "$bare/tmp"
  cp -r "$out" "$bare/bundle"
  if ! unshare -r chroot "$bare" /bundle/bin/facet --version >/dev/null 2>&1 &&
      ! unshare -r true 2>/dev/null && ! chroot "$bare" /bundle/bin/facet --version >/dev/null 2>&1; then
    say "no root of one's own can be made here: not tried alone"
    return 0
  fi
  local enter=(unshare -r chroot "$bare")
  unshare -r true 2>/dev/null || enter=(chroot "$bare")
  "${enter[@]}" /bundle/bin/facet --version || { say "facet does not run beside glibc alone"; return 1; }
  ((data)) || return 0
  "${enter[@]}" /bundle/bin/facet run fable "Tell me a story." --backend cpu --max-tokens 8 >/dev/null ||
    { say "facet run fable fails beside glibc alone"; return 1; }
}

build_programs
fill
describe >"$out/BUNDLE"
if ((check)); then
  check_libraries
  check_alone
fi
tar czf "$out.tar.gz" -C "${out%/*}" "${out##*/}"
cat "$out/BUNDLE"
printf '%s, %s\n%s.tar.gz, %s\n' "$out" "$(du -sh "$out" | cut -f1)" "$out" "$(du -sh "$out.tar.gz" | cut -f1)"
