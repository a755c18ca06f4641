#!/bin/bash
# vm-run.sh KERNEL COMMAND...   run COMMAND on another Debian kernel (qemu, TCG), with this machine's own files.
#   KERNEL: 5.10, 6.1, 6.12 or 7.3 (newest Debian package of that series), or a whole release such as 6.1.0-56-amd64.
#   The command sees the host's root file system (9p, read-only, under a tmpfs overlay: writes are dropped),
#   the same current directory, root, cgroup2 at /sys/fs/cgroup, and $VM_OUT, a folder that is kept on the host.
#   Exit status: the command's; 124 timed out; 125 no kernel or the guest died (its console is then shown).
# Environment: VM_CACHE (kernels; default the cache folder)  VM_OUT (kept; default: a folder that goes afterwards)
#   VM_TIMEOUT (s, 300)  VM_MEM (MiB, 1024)  VM_CPUS (2)  VM_TCG (single; multi is faster, and about 1 boot in 60 panics)
#   VM_MODULES (more modules)  VM_QEMU (the program)  VM_APPEND (more kernel arguments)  VM_MIRROR (a Debian mirror;
#   default: the one that this machine's own apt uses)
# Needs qemu-system-x86, kmod, xz-utils, apt; about 400 MB of cache per kernel. Emulated: many small processes and TLS
# handshakes take 40 times as long as on the machine itself.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2,13p "$0" >&2; exit 125; }
K=$1; shift
mkdir -p "${VM_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/wirespan/kernels}"; C=$(realpath "$VM_CACHE"); T=${VM_TIMEOUT:-300} Q=
if [ -n "${VM_OUT:-}" ]; then O=$VM_OUT D=; mkdir -p "$O"; else O=$(mktemp -d "$C/out.XXXXXX") D=$O; fi; O=$(realpath "$O")
trap '[ -z "$Q" ] || kill $Q 2>/dev/null || true; [ -z "$D" ] || rm -rf "$D"' EXIT
exec 9>"$C/lock"; flock 9  # one at a time prepares a kernel

MIRROR=${VM_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sed -n 's,/debian/*$,,p' | sed -n 1p)}  # the machine's own Debian mirror

fetch() {  # fetch PACKAGE SUITE: download and unpack under $C/x/PACKAGE; the host's own apt sources stay as they are
  local d=$C/apt/$2 p a; mkdir -p "$d"/{lists,archives}/partial "$C/deb" "$C/x"
  for p in "$2" "$2-security"; do case $p in *-backports-security) continue;; esac; a=debian; [ "$p" = "$2" ] || a=debian-security
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR/$a $p main"; done > "$d/sources.list"
  a=(-qq -o Dir::Etc::sourcelist="$d/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$d/lists" \
     -o Dir::Cache="$d" -o APT::Sandbox::User=root -o Acquire::Languages=none)
  [ -n "$(find "$d/lists" -name '*Packages*' -mtime -1)" ] || apt-get "${a[@]}" update >&2
  p=$1; case $p in *'*') p=$(apt-cache "${a[@]:1}" pkgnames "${p%%[*]*}" | grep -Ex 'linux-image-[0-9.]+(-[0-9]+|\+deb[0-9]+)-amd64' | sort -V | tail -1 || true);; esac
  [ -n "$p" ] || { echo "vm-run: no package for $1 in $2" >&2; exit 125; }
  [ -d "$C/x/$p" ] || {  # since 7.x a kernel comes in several packages
    for q in "$p" $(apt-cache "${a[@]:1}" show "$p" | grep -oE 'linux-(binary|modules|base)-[^ ,]+' | sort -u); do
      (cd "$C/deb" && apt-get "${a[@]}" download "$q" >&2); dpkg-deb -x "$C"/deb/"$q"_*.deb "$C/x/$p.tmp"; rm "$C"/deb/"$q"_*.deb; done
    [ -d "$C/x/$p.tmp/lib" ] || ln -s usr/lib "$C/x/$p.tmp/lib"; mv "$C/x/$p.tmp" "$C/x/$p"; }
  P=$p
}
case $K in 5.10|5.10.*) S=bullseye;; 7.*) S=trixie-backports;; *) S=bookworm;; esac
V=$(ls "$C/x" 2>/dev/null | sed -n 's/^linux-image-//p' | grep -E "^${K//./\\.}([.+-]|$)" | sort -V | tail -1 || true)
if [ -z "$V" ]; then case $K in *-amd64) fetch "linux-image-$K" $S;; *) fetch "linux-image-$K.*" $S;; esac; V=${P#linux-image-}; fi
[ -x "$C/x/busybox-static/bin/busybox" ] || fetch busybox-static bookworm
R=$C/x/linux-image-$V; Z=$R/boot/vmlinuz-$V; [ -e "$Z" ] || Z=$R/lib/modules/$V/vmlinuz; I=$C/initrd-$V; M="virtio_pci 9pnet_virtio 9p overlay ${VM_MODULES:-}"
[ -f "$R/lib/modules/$V/modules.dep.bin" ] || /sbin/depmod -b "$R" "$V"

if [ "$(cat "$I.mods" 2>/dev/null)" != "$M" ] || [ "$0" -nt "$I.mods" ]; then  # initramfs: busybox, the modules in loading order, init
  rm -rf "$I.d"; mkdir -p "$I.d"/{bin,m,proc,low,rw,new}; cp "$C/x/busybox-static/bin/busybox" "$I.d/bin/"; n=100
  for m in $M; do /sbin/modprobe -d "$R" -S "$V" --ignore-install -D "$m" | sed -n 's/^insmod //p'; done | awk '!s[$1]++{print $1}' |
    while read -r f; do n=$((n+1)); b=$(basename "$f"); case $f in *.xz) xz -dc "$f" > "$I.d/m/$n-${b%.xz}";; *) cp "$f" "$I.d/m/$n-$b";; esac; done || exit 125
  cat > "$I.d/init" <<'G'
#!/bin/busybox sh
b=/bin/busybox; $b mount -t proc proc /proc
for m in /m/*.ko; do $b insmod $m || echo "vm-run: insmod $m failed"; done
o=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o $o,ro,cache=loose root /low && $b mount -t tmpfs -o size=80% tmpfs /rw && $b mkdir /rw/u /rw/w &&
$b mount -t overlay -o lowerdir=/low,upperdir=/rw/u,workdir=/rw/w overlay /new || $b poweroff -f
cd /new; $b mount -t proc proc proc; $b mount -t sysfs sys sys; $b mount -t devtmpfs dev dev
$b mkdir -p dev/pts dev/shm vmout lib/modules/$($b uname -r)
$b mount -t devpts devpts dev/pts; $b mount -t tmpfs tmpfs dev/shm; $b mount -t tmpfs tmpfs run
$b mount -t cgroup2 cgroup2 sys/fs/cgroup; $b mount -t bpf bpf sys/fs/bpf
$b mount -t tracefs tracefs sys/kernel/tracing; $b mount -t debugfs debugfs sys/kernel/debug
$b mount -t 9p -o $o,cache=none out vmout; $b mount -t 9p -o $o,ro,cache=loose mods lib/modules
$b ip link set lo up; $b hostname -F etc/hostname; $b ln -sf /proc/self/fd dev/fd
$b umount /proc; exec $b switch_root /new /bin/bash /vmout/.cmd
G
  chmod +x "$I.d/init"
  (cd "$I.d" && find . -print0 | "$C/x/busybox-static/bin/busybox" cpio -0 -o -H newc 2>/dev/null | gzip -1) > "$I"; echo "$M" > "$I.mods"
fi

exec 9>&-
rm -f "$O"/.rc "$O"/.boot; : > "$O/.out"; : > "$O/.err"  # the command, then the guest is switched off
{ echo "export PATH=$(printf %q "$PATH") HOME=$(printf %q "$HOME") VM=$V VM_OUT=/vmout TERM=dumb"
  echo "cut -d' ' -f1 /proc/uptime > /vmout/.boot; cd $(printf %q "$PWD")"
  printf 'timeout -k 5 %q ' "$T"; printf '%q ' "$@"; echo '</dev/null >/vmout/.out 2>/vmout/.err; echo $? > /vmout/.rc'
  echo 'sync; echo o > /proc/sysrq-trigger; sleep 99'; } > "$O/.cmd"
s=local,security_model=none,multidevs=remap
# no_timer_check: on a busy machine the emulated timer is late for the check that the kernel makes of it, which then panics.
timeout -k 5 $((T+120)) ${VM_QEMU:-qemu-system-x86_64} -accel tcg,thread=${VM_TCG:-single} -cpu max,la57=off -smp "${VM_CPUS:-2}" -m "${VM_MEM:-1024}" \
  -nodefaults -no-user-config -no-reboot -display none -serial file:"$O/.console" \
  -kernel "$Z" -initrd "$I" -append "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off ${VM_APPEND:-}" \
  -virtfs "$s,path=/,mount_tag=root,readonly=on" -virtfs "$s,path=$R/lib/modules,mount_tag=mods,readonly=on" -virtfs "$s,path=$O,mount_tag=out" \
  </dev/null >"$O/.qemu" 2>&1 & Q=$!
tail -qf -s 0.2 --pid=$Q "$O/.out" & A=$!; tail -qf -s 0.2 --pid=$Q "$O/.err" >&2 & B=$!
wait $Q || true; Q=; wait $A $B || true
[ -s "$O/.rc" ] || { echo "vm-run: no result from the guest ($V); end of its console:" >&2; cat "$O/.qemu" "$O/.console" | tail -n 40 >&2; exit 125; }
exit "$(cat "$O/.rc")"
