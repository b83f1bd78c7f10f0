# syntax=docker/dockerfile:1

# The image holds one static binary, runs as uid 65532, and keeps everything in
# /data. Build it with "make docker", or, from an already built bin/holdfast and
# without any base image, with "make docker-packed".

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=${VERSION}" -o /out/holdfast ./cmd/holdfast

FROM scratch AS packed
COPY bin/holdfast /holdfast
COPY --chown=65532:65532 deploy/image/ /
ENV HOLDFAST_DIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 6379 26379 16379 9121
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["/holdfast", "healthcheck"]
ENTRYPOINT ["/holdfast"]

FROM scratch AS release
COPY --from=build /out/holdfast /holdfast
COPY --chown=65532:65532 deploy/image/ /
ENV HOLDFAST_DIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 6379 26379 16379 9121
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["/holdfast", "healthcheck"]
ENTRYPOINT ["/holdfast"]
