#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# lab_guest.sh CHECKOUT RESULTS TAG DIRECTORY... - the lab's share of the
# tests, inside the VM
#
# Runs as root on a read-only root file system; only RESULTS and the VM's own
# tmpfs can be written.  Every stage leaves RESULTS/STAGE.log and a line in
# RESULTS/status; lab.py judges them.  TAG is that of a share with the same
# root, and what is in a DIRECTORY is taken from there and kept in memory.
set -u

checkout=$1
results=$2
tag=$3
shift 3
directories=$*
units="$checkout/csrc/build/tests"

# An emulated CPU is 10 to 50 times slower: tests multiply their time limits
# by the slowdown.  Unix sockets need a real file system, hence TMPDIR.
export PYMIGRATE_TEST_SLOWDOWN=20
export PYTHONDONTWRITEBYTECODE=1
export TMPDIR=/dev/shm
export PATH="$checkout/.venv/bin:$PATH"
cd "$checkout" || exit 1

# stage NAME FUNCTION, in a subshell so that set -e and cd stay inside
stage() {
	began=$(date +%s)
	("$2") >"$results/$1.log" 2>&1
	echo "$1 $? $(($(date +%s) - began))" >>"$results/status"
}

prepare() {
	set -e
	uname -a
	modprobe kvm-amd
	grep . /sys/module/kvm_amd/parameters/npt
	test -c /dev/kvm
	echo 64 >/proc/sys/vm/nr_hugepages
	ip link set lo up
	mkdir /run/kept
	mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose \
		"$tag" /run/kept
	for directory in $directories; do
		mount --bind "/run/kept$directory" "$directory"
	done
}

# The units that meet the kernel; the others do not care where they run.
run_units() {
	failed=0
	ran=0
	for test in "$units"/test_*; do
		case $(basename "$test") in
		*.o | *.d) continue ;;
		test_dirty* | test_uffd* | test_kvm* | test_memory* | test_vmm*) ;;
		*) continue ;;
		esac
		echo "# $(basename "$test")"
		timeout 120 "$test" || failed=1
		ran=1
	done
	[ $ran = 1 ] && return $failed
}

# Collecting everything would take a minute here: only files with a share.
run_pytest() {
	# shellcheck disable=SC2046 # a list of files
	timeout 300 python -m pytest -m lab_subset -p no:cacheprovider -p no:benchmark \
		-p no:hypothesispytest -o timeout=240 \
		--junit-xml="$results/junit.xml" \
		$(grep -l 'mark\.lab_subset' tests/test_*.py)
}

run_demo() {
	for tracker in kvm-log kvm-ring uffd-wp; do
		timeout 120 pymigrate demo --memory 16M --vcpus 2 \
			--working-set 1M --dirty-rate 1000 --content random \
			--tracker $tracker --verify \
			--json "$results/demo-$tracker.json" || return
	done
}

# The sign of life; what ends the VM ends this, too.
(while :; do
	date >"$results/alive"
	sleep 5
done) &

stage boot prepare
stage units run_units
stage pytest run_pytest
stage demo run_demo
