#!/usr/bin/env bash
# Everything that CI runs, in one go. Usage: ./test.sh [--quick]
#
# Installs what the tests need and is missing (Debian packages; as root, or through sudo), checks what the kernel can do,
# then formatting, lints, documentation, tests, layering and licences, and the demo end to end. Goes on after a failure,
# so that one run shows all of them; the exit code is 0 only if nothing failed.
#
# Tests need to make network namespaces. Root may; for anybody else they run as root of a user namespace, which is enough
# because no test touches a namespace it has not made.

set -uo pipefail
cd "$(dirname "$0")" || exit 1

quick=false
case "${1:-}" in
  '') ;;
  --quick) quick=true ;;
  *) echo "usage: ./test.sh [--quick]" >&2; exit 2 ;;
esac

passed=0
failed=0
failures=()
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tools=target/tools
export PATH=$PWD/$tools/bin:$PATH:/usr/sbin:/sbin CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

step() { # title, command…
  local title=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  if "$@"; then
    passed=$((passed + 1))
    printf '== %s: ok, %d s\n' "$title" $((SECONDS - began))
  else
    failed=$((failed + 1))
    failures+=("$title")
    printf '== %s: FAILED, %d s\n' "$title" $((SECONDS - began))
  fi
}

stop() { printf '\n%s\n0 passed, 1 failed\n' "$1" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# What runs in a namespace: as root as we are, otherwise as root of a user namespace.
with_namespaces() {
  if [ "$(id -u)" = 0 ]; then "$@"; else unshare --user --map-root-user -- "$@"; fi
}

# command:package, for every program that the build or a test starts.
needs=(cc:gcc ip:iproute2 unshare:util-linux setpriv:util-linux)
$quick || needs+=(nft:nftables conntrack:conntrack conntrackd:conntrackd keepalived:keepalived systemctl:systemd)

install_missing() {
  local missing=() pair
  for pair in "${needs[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || { echo "please install: ${missing[*]}"; return 1; }
  printf 'installing: %s\n' "${missing[*]}"
  # The tests start keepalived and conntrackd themselves; the packages' services must not run on this machine.
  local policy=/usr/sbin/policy-rc.d made_policy=false status
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >"$scratch/policy-rc.d"
    as_root install -m 755 "$scratch/policy-rc.d" $policy && made_policy=true
  fi
  as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  status=$?
  $made_policy && as_root rm -f $policy
  if [ -d /run/systemd/system ]; then
    local package
    for package in "${missing[@]}"; do
      case $package in keepalived | conntrackd) as_root systemctl disable --now "$package" ;; esac
    done
  fi
  return $status
}

check_kernel() {
  local ok=true
  try() { # what it is for, command run in a new network namespace
    with_namespaces unshare --net -- sh -c "$2" >"$scratch/probe" 2>&1 && return
    ok=false
    printf 'this kernel does not offer %s here:\n' "$1"
    sed 's/^/    /' "$scratch/probe"
  }
  try "network namespaces" "true"
  try "veth pairs" "ip link add name probe0 type veth peer name probe1"
  try "macvlan interfaces" "ip link add name probe0 type veth peer name probe1 && ip link add link probe0 name probe2 type macvlan"
  try "bridges" "ip link add name probe0 type bridge"
  try "policy routing" "ip rule add fwmark 1 lookup 100"
  try "conntrack settings (module nf_conntrack)" "test -e /proc/sys/net/netfilter/nf_conntrack_max"
  if ! $quick; then
    try "nf_tables" "nft add table inet a"
    try "NAT in nf_tables" "nft 'table ip a { chain b { type nat hook postrouting priority 100; snat to 192.0.2.1; }; }'"
    try "ctnetlink" "conntrack -L"
    [ "$(id -u)" != 0 ] || try "control groups (version 2)" "unshare --mount mount -t cgroup2 cgroup2 /mnt"
    try "the FTP helper (module nf_nat_ftp)" "nft 'table ip a { ct helper b { type \"ftp\" protocol tcp; }; }'"
  fi
  $ok
}

tests() { # further arguments go to cargo test
  local leave_out=() status counts
  if [ "$(id -u)" != 0 ]; then
    leave_out=(-- --skip under_systemd::)
    echo "leaving out under_systemd: to boot systemd takes control groups, which only root may make"
  fi
  with_namespaces cargo test --workspace --no-fail-fast "$@" "${leave_out[@]}" 2>&1 | tee "$scratch/tests"
  status=${PIPESTATUS[0]}
  counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$scratch/tests" |
    awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  return "$status"
}

# Only layering, licences and sources are asked of it, none of which needs its network features or speed.
install_deny() {
  command -v cargo-deny >/dev/null ||
    cargo install --quiet --locked --debug --no-default-features --version 0.20.2 --root $tools cargo-deny
}

deny() {
  install_deny || return 1
  # It looks at what the build does not need on this platform too.
  cargo fetch --quiet --locked && cargo deny --offline check bans licenses sources
}

# As the README has it built.
build_release() { cargo build --quiet --release -p lockstep-daemon; }

# Most tests wait most of the time: what the later steps need is compiled meanwhile, with what they leave of the processors.
# Whatever fails of it fails again in its step, and says why there.
compile_ahead() {
  renice -n 19 $BASHPID >/dev/null
  install_deny
  build_release
}

# The program where an ordinary user can reach it.
demo_binary() {
  build_release || return 1
  chmod 755 "$scratch" && install -m 755 "${CARGO_TARGET_DIR:-target}/release/lockstep" "$scratch/lockstep"
}

as_user() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nonexistent "$@")
  else
    "$@"
  fi
}

command -v cargo >/dev/null || stop "cargo is missing: install Rust, see https://rustup.rs"
install_missing || stop "the programs that the tests need could not be installed"
check_kernel || stop "the tests need the above; as an ordinary user, also permission to make user namespaces"

step "formatting" cargo fmt --all --check
step "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
step "build" cargo build --workspace --quiet
if $quick; then
  step "tests" tests --exclude lockstep-tests
else
  compile_ahead >/dev/null 2>&1 &
  ahead=$!
  step "tests" tests
  wait $ahead
  step "layering, licences, sources" deny
  step "release build" demo_binary
  [ "$(id -u)" != 0 ] || step "demo as root" "$scratch/lockstep" demo
  step "demo as an ordinary user" as_user "$scratch/lockstep" demo
  step "demo: stopped and failed back" as_user "$scratch/lockstep" demo --failure stop --failback
fi

[ ${#failures[@]} = 0 ] || printf '\nfailed: %s\n' "${failures[@]}"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
