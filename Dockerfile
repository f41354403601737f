# The server alone: a static binary, its configuration, no shell. docker build -t oap . ; for two architectures:
# docker buildx build --platform linux/amd64,linux/arm64 -t oap .
FROM rust:1.95.0-alpine3.22 AS build
# The compiler of the image, whatever rust-toolchain.toml adds for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin oap \
    && strip target/release/oap \
    && image/rootfs.sh target/release/oap /rootfs

FROM scratch
COPY --from=build /rootfs /
WORKDIR /skywalking
USER 1000:1000
VOLUME ["/skywalking/data"]
EXPOSE 12800 11800 1234
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/skywalking/bin/swctl"]
# The first argument makes it ignore others that were meant for the original's.
ENTRYPOINT ["/skywalking/bin/oap", "--lenient"]
