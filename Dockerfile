# One image for every role. The last stage holds the binary, the C library and certificate authorities: no shell, no
# package manager, no root. `showcaller health` is therefore what asks a container how it is.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --features mongodb --bin showcaller \
    && cp target/release/showcaller /showcaller \
    && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /showcaller /usr/local/bin/showcaller
# Where the embedded defaults keep their data; with PostgreSQL and RabbitMQ nothing is written here.
COPY --from=build --chown=nonroot:nonroot /data /srv/data
WORKDIR /srv
VOLUME /srv/data
USER nonroot
ENV SHOWCALLER_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["showcaller", "health"]
ENTRYPOINT ["showcaller"]
