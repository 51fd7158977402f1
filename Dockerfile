# One image for the harness, the fakes and the coordinators that come with it; what it runs is the command's business.
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}
WORKDIR /anechoic
COPY pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extra = p['optional-dependencies']; print(*p['dependencies'], *extra['containers'], *extra['load'], *extra['redis'], sep='\n')" > /tmp/requirements.txt \
    && python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt
COPY . ./
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-deps . \
    && mkdir -p /state /report /run/anechoic && chmod 1777 /state /report /run/anechoic
ENV PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
ENTRYPOINT ["python3", "-m"]
CMD ["anechoic", "--help"]
