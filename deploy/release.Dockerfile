# The released image: executables that were built before, as bin/amd64/keyrotate and bin/arm64/keyrotate. Nothing runs on
# the image's own processor while it is made.
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS files
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && mkdir -p /empty/devstack /empty/tmp && chown -R 65532:65532 /empty

FROM scratch
ARG TARGETARCH
COPY --from=files /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=0755 bin/${TARGETARCH}/keyrotate /usr/local/bin/keyrotate
COPY --from=files --chown=65532:65532 /empty/ /
ENV PATH=/usr/local/bin HOME=/tmp SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["keyrotate"]
