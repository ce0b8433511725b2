# The image of Sheave: one static program, the authorities that backends may be signed by, and nothing else.
# `make image` builds the program and brings both into target/rootfs.
FROM scratch
COPY target/rootfs/ /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080 8443 9090
ENTRYPOINT ["/sheave"]
CMD ["controller"]
