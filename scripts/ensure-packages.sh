#!/usr/bin/env bash
# Installs Debian packages that are missing; as another user than root it prints the command to type and stops.
# Usage: ensure-packages.sh PACKAGE…      A package counts as there when what it is needed for works, wherever it came from.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

present() {
  case $1 in
    python3-venv) [ -x .venv/bin/python ] || "${PYTHON:-python3}" -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
    nodejs) command -v node >/dev/null ;;
    golang) command -v go >/dev/null ;;
    iproute2) command -v ip >/dev/null ;;
    mosquitto-clients) command -v mosquitto_sub >/dev/null ;;
    coturn) command -v turnserver >/dev/null ;;
    qemu-system-x86) command -v qemu-system-x86_64 >/dev/null ;;
    librsvg2-bin) command -v rsvg-convert >/dev/null ;;
    poppler-utils) command -v pdftoppm >/dev/null ;;
    xz-utils) command -v xz >/dev/null ;;
    # Debian 12 has it in qemu-system-x86.
    virtiofsd) [ -x /usr/libexec/virtiofsd ] || [ -x /usr/lib/qemu/virtiofsd ] || { known qemu-system-x86 && ! known virtiofsd; } ;;
    systemd) command -v systemd-analyze >/dev/null ;;
    fonts-dejavu-core) [ -d /usr/share/fonts ] && [ -n "$(find /usr/share/fonts -name '*.ttf' -print -quit)" ] ;;
    gir1.2-* | gstreamer1.0-* | python3-gi) dpkg -s "$1" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

known() {
  apt-cache show "$1" >/dev/null 2>&1
}

find_missing() {
  missing=()
  for package; do
    present "$package" || missing+=("$package")
  done
}

find_missing "$@"
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "missing: ${missing[*]} (Debian's names). Install them with this system's package manager." >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Some programs are missing. Type this, then the same make again:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
find_missing "$@" # apt may not have known any package before
echo "installing ${missing[*]}"
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
