# Two stages: pip and its cache stay in the first.
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
COPY pipeline pipeline
COPY jobs jobs
COPY schemas schemas
RUN python -m venv /opt/delegraph \
 && /opt/delegraph/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin delegraph \
 && install -d -o delegraph -g delegraph /lake
COPY --from=build /opt/delegraph /opt/delegraph
ENV PATH=/opt/delegraph/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DELEGRAPH__LAKE__PATH=/lake
USER 10001:10001
WORKDIR /home/delegraph
VOLUME /lake
STOPSIGNAL SIGTERM
ENTRYPOINT ["delegraph"]
CMD ["run"]
