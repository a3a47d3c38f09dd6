#!/bin/sh
# The first process of the guest in uml.py: load ESP and AH, bring the interface up, then do what the console says.
# Arguments: the interface and its link address.
stty -echo
mount -t proc none /proc
mount -t tmpfs none /run
mkdir /run/lib
ln -s /usr/lib/uml/modules /run/lib/modules
modprobe -d /run -a ipv6 esp4 esp6 ah4 ah6 xfrm_user authenc authencesn hmac cbc ctr gcm ghash-generic seqiv echainiv des_generic sha512_generic drbg &&
    ip link set "$1" address "$2" up
echo "status $?"
echo >/proc/sys/kernel/modprobe  # all that there is has been loaded: do not search for more at each SA
while read -r command; do
    eval "$command"
    echo "status $?"
done
