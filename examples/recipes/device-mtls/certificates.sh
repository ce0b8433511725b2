# Makes the authority of the devices unless it is there, and the certificate of the device $1.
set -eu
p256="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
[ -e ca.crt ] || openssl req -x509 $p256 -days 3650 -subj "/O=Example/CN=Devices" -keyout ca.key -out ca.crt
openssl req $p256 -subj "/O=Example/CN=$1" -addext "extendedKeyUsage=clientAuth" -keyout "$1.key" -out "$1.csr"
openssl x509 -req -in "$1.csr" -copy_extensions copy -CA ca.crt -CAkey ca.key -CAcreateserial -days 90 -out "$1.crt"
