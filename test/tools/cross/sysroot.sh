#!/bin/sh
# sysroot.sh ARCHITECTURE DIR: unpacks into DIR the libraries of forkq and its tests, from Debian's
# packages for another architecture. Nothing is installed, and the system does not learn of the
# architecture: its own packages may be newer than those, and apt would then refuse both.
set -eu

architecture=$1
mkdir -p "$2"
sysroot=$(CDPATH='' cd -- "$2" && pwd)
libraries='libmsgpack-dev libmsgpackc2 libuv1-dev libuv1 check libsubunit-dev libsubunit0'

apt_get() {
  apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
    -o APT::Sandbox::User=root -o Dir::State="$sysroot/apt" -o Dir::Cache="$sysroot/apt" \
    -o Dir::State::status="$sysroot/apt/status" "$@"
}

mkdir -p "$sysroot/apt/lists/partial" "$sysroot/apt/archives/partial"
: >"$sysroot/apt/status"
# What is not there for this architecture is left out; what is needed of it is missed by the next call.
apt_get update || true
cd "$sysroot/apt/archives"
# shellcheck disable=SC2086 # a list of words
apt_get download $libraries
for package in *.deb; do
  dpkg-deb -x "$package" "$sysroot"
done
rm -r "$sysroot/apt"
: >"$sysroot/complete"
