#!/bin/sh
# What the cloud's scripts ran when this router became master. Each line that met an interface without carrier or address
# said "Network is unreachable", and nobody ran it again. Lockstep needs lockstep.toml alone.

grep -q Table_eth2 /etc/iproute2/rt_tables || echo "2 Table_eth2" >> /etc/iproute2/rt_tables
grep -q Table_eth3 /etc/iproute2/rt_tables || echo "3 Table_eth3" >> /etc/iproute2/rt_tables

ip link set eth2 up
ip rule add fwmark 102 table Table_eth2 priority 32002
ip rule add from 203.0.113.0/24 table Table_eth2 priority 32102
ip route add throw 10.1.1.0/24 table Table_eth2 proto static
ip route add throw 10.2.0.0/24 table Table_eth2 proto static
ip route add 203.0.113.0/24 dev eth2 table Table_eth2
ip route add default via 203.0.113.1 dev eth2 table Table_eth2

ip link set eth3 up
ip rule add fwmark 103 table Table_eth3 priority 32003
ip rule add from 198.51.100.0/24 table Table_eth3 priority 32103
ip route add throw 10.1.1.0/24 table Table_eth3 proto static
ip route add throw 10.2.0.0/24 table Table_eth3 proto static
ip route add 198.51.100.0/24 dev eth3 table Table_eth3
ip route add default via 198.51.100.1 dev eth3 table Table_eth3

ip route add default via 203.0.113.1 dev eth2 metric 10
ip route add default via 198.51.100.1 dev eth3 metric 20
