#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# packages.sh SET... - see to it that what a set of targets needs is there
#
# A set is build, test, lab, lint or bench.  Each need is probed by what it gives (a
# header, a command), not by package name, so nothing is installed over a
# tool that came another way.  Root on Debian installs what is missing;
# anybody else is told what to install.
set -eu

python=${PYTHON:-python3}
missing=

# need PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

has_python_header() {
	"$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

has_kernel_with_kvm_amd() {
	for image in /boot/vmlinuz-*-amd64; do
		modules=/lib/modules/${image#/boot/vmlinuz-}
		[ -r "$image" ] && [ -d "$modules/kernel/arch/x86/kvm" ] &&
			return 0
	done
	return 1
}

# The lab's initramfs holds busybox and no libraries.
has_static_busybox() {
	file -L "$(command -v busybox)" | grep -q 'static'
}

build_needs() {
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
		echo "pymigrate needs Python 3.10 or newer as $python" >&2
		exit 1
	}
	need gcc command -v cc
	need libc6-dev test -e /usr/include/stdlib.h
	need python3-dev has_python_header
	need python3-venv "$python" -c 'import ensurepip, venv'
	need pkg-config command -v pkg-config
	need liblz4-dev pkg-config --exists liblz4
	need libzstd-dev pkg-config --exists libzstd
	need libxxhash-dev pkg-config --exists libxxhash
	need iproute2 command -v ip
}

test_needs() {
	need g++ command -v c++
	need util-linux command -v unshare
}

lab_needs() {
	need qemu-system-x86 command -v qemu-system-x86_64
	need linux-image-amd64 has_kernel_with_kvm_amd
	need file command -v file
	need busybox-static has_static_busybox
	need kmod command -v modprobe
}

bench_needs() {
	need qemu-system-x86 command -v qemu-system-x86_64
	need iperf3 command -v iperf3
	need binutils command -v ld
}

lint_needs() {
	need clang-format command -v clang-format
}

for set in "$@"; do
	case $set in
	build | test | lab | lint | bench) "${set}_needs" ;;
	*)
		echo "$0: no such set: $set" >&2
		exit 2
		;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "Missing system packages (Debian's names); as root:" >&2
	echo "    apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of words
apt-get -qq install -y --no-install-recommends $missing >/dev/null
