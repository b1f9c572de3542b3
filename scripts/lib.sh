# shellcheck shell=bash
# What the scripts share: messages, root, Rust. Sourced, never run.

# The oldest compiler that builds KuMon; Cargo.toml's rust-version says the same to cargo.
rust_needed=1.89

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }

# Says what is missing and how to get it (one argument per line), and ends.
die() {
  printf '%serror:%s %s\n' "$bold" "$plain" "$1" >&2
  shift
  [ $# = 0 ] || printf '       %s\n' "$@" >&2
  exit 1
}

# Runs a command as root, through sudo when needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and there is no sudo: $*" "Run the script again as root."
  fi
}

# Ends unless the script is root or sudo makes it so: a wrong password is no hiccup of the network, to be retried.
require_root() {
  [ "$(id -u)" != 0 ] || return 0
  command -v sudo >/dev/null || die "$1 needs root, and there is no sudo." "Become root (su -), and run this again."
  sudo true || die "$1 needs root, and sudo refused; its message is above." \
    "Become root (su -), or have an administrator let $(id -un) use sudo, and run this again."
}

# Mirrors and networks fail for moments.
retry() {
  local attempt
  for attempt in 1 2 3; do
    "$@" && return
    [ "$attempt" = 3 ] || { say "attempt $attempt failed, once more in $((attempt * 5)) s: $*"; sleep $((attempt * 5)); }
  done
  return 1
}

# at_least 1.89 1.95.0
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

rust_version() { rustc --version 2>/dev/null | cut -d ' ' -f 2; }

# Whether cargo and a rustc that is new enough are found. Also looks where rustup puts them, which a fresh shell
# (and sudo) doesn't, and prefers rustup's stable toolchain to an older default.
use_rust() {
  [ ! -d "$HOME/.cargo/bin" ] || case ":$PATH:" in *":$HOME/.cargo/bin:"*) ;; *) PATH=$HOME/.cargo/bin:$PATH ;; esac
  rust_is_new && return
  if command -v rustup >/dev/null && rustup toolchain list 2>/dev/null | grep -q '^stable'; then
    export RUSTUP_TOOLCHAIN=stable
  fi
  rust_is_new
}

rust_is_new() {
  local version
  version=$(rust_version)
  command -v cargo >/dev/null && [ -n "$version" ] && at_least "$rust_needed" "$version"
}

systemd_runs() { [ -d /run/systemd/system ]; }

# The kernels of the tests, unpacked by scripts/setup into PROJECT/.cache.
# second_kernel_image PROJECT VERSION   The image of a version (5.10), or of the `newest` that is there.
second_kernel_image() {
  local name="vmlinuz-$2.*"
  [ "$2" != newest ] || name='vmlinuz-*'
  find "$1"/.cache/kernel/*/boot -name "$name" 2>/dev/null | sort -V | tail -n 1
}

# second_kernel_missing PROJECT VERSION   Names what scripts/second-kernel lacks; nothing when it can run.
second_kernel_missing() {
  local tool
  for tool in qemu-system-x86_64 busybox script unshare mkfs.ext4 depmod; do
    command -v "$tool" >/dev/null || { echo "$tool"; return; }
  done
  [ -x "$1/.cache/venv/bin/vng" ] || { echo "virtme-ng in .cache/venv"; return; }
  [ -n "$(second_kernel_image "$1" "$2")" ] || echo "kernel $2 in .cache/kernel"
}
