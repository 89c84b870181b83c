# keyrotate in an image of its own: one static executable and the certificates to trust; no shell, no root.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rustup target add x86_64-unknown-linux-musl
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --target x86_64-unknown-linux-musl --package keyrotate \
    && cp target/x86_64-unknown-linux-musl/release/keyrotate /keyrotate \
    && mkdir -p /empty/devstack /empty/tmp && chown -R 65532:65532 /empty

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /keyrotate /usr/local/bin/keyrotate
# Volumes take their owner from what they are mounted over.
COPY --from=build --chown=65532:65532 /empty/ /
ENV PATH=/usr/local/bin HOME=/tmp SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["keyrotate"]
