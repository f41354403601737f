# The server alone: a static binary, its configuration, no shell. docker build -t oap:0.1.0 . ; for two architectures:
# docker buildx build --platform linux/amd64,linux/arm64 -t oap:0.1.0 .
# Either is compiled on the platform of the builder, which must be BuildKit (Docker 23 or later) or one that sets the same arguments.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
# The compiler of the image, whatever rust-toolchain.toml adds for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY image/requirements.txt /requirements.txt
# Debian keeps one version of pip in a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --break-system-packages --require-hashes -r /requirements.txt \
    && rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl
WORKDIR /src
COPY . .
ARG TARGETARCH
# Only what others wrote comes from the cache: files of the project count as new, whatever time they carry.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && image/build.sh "$TARGETARCH" /rootfs

FROM scratch
LABEL org.opencontainers.image.title="oap" \
      org.opencontainers.image.description="Observability analysis platform server, compatible with Apache SkyWalking OAP 8.1.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /rootfs /
WORKDIR /skywalking
USER 1000:1000
VOLUME ["/skywalking/data"]
EXPOSE 12800 11800 1234
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/skywalking/bin/swctl"]
# The first argument makes it ignore others that were meant for the original's.
ENTRYPOINT ["/skywalking/bin/oap", "--lenient"]
