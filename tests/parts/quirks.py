"""Quirks of public registries, each as a lie and with the public source of the fact."""

from .lies import Lie, html, refused

PAGE_OF_A_FRONT = Lie(
    status=403,
    body=b"<html><title>403 Forbidden</title>Your client does not have permission to get this URL.</html>",
    headers={"Content-Type": "text/html; charset=UTF-8", "Docker-Distribution-Api-Version": None},
)
"""The page of Google's front end (https://github.com/kubernetes/registry.k8s.io/issues/138) and, in other words, of
Cloudflare's before docker.io (https://github.com/docker-library/official-images/issues/4309)."""

_NO_BODY = {"Content-Type": "application/json", "Docker-Content-Digest": None}

REFUSED_HEADS = {
    # public.ecr.aws: https://github.com/aws/containers-roadmap/issues/2671
    "401 for a blob": refused(401, "UNAUTHORIZED"),
    # An object store behind a URL that is signed for GET: https://github.com/distribution/distribution/issues/2055
    "403 of an object store": Lie(status=403, body=b"", headers={"Docker-Distribution-Api-Version": None}),
    # Harbor's proxy until a GET imports: https://github.com/containerd/containerd/issues/4706
    "404 until a GET": refused(404, "NOT_FOUND"),
    # https://github.com/crossplane/crossplane/issues/3223
    "400": Lie(status=400, body=b"", headers=_NO_BODY),
    "405": Lie(status=405, body=b"", headers=_NO_BODY),
    "501": Lie(status=501, body=b"", headers=_NO_BODY),
    # https://github.com/yusing/godoxy/issues/169
    "200 without a length": Lie(status=200, body=b"", headers={"Content-Length": "0", "Docker-Content-Digest": None}),
    "200 of another type": html(200),
}
"""Responses to a HEAD for what a GET is given."""

WITHOUT_REFERRERS = {
    # JFrog Artifactory: https://github.com/google/go-containerregistry/issues/2026
    "406": refused(406),
    # Quay, for a digest that it does not know: https://github.com/quay/quay/issues/3071
    "400": refused(400, "MANIFEST_INVALID"),
    "405": refused(405),
    "415": refused(415),
    "404 of no registry": html(404),
    # Google Artifact Registry's page for signing in: https://github.com/google/go-containerregistry/issues/1968
    "200 with a page": html(200),
}
"""Responses of registries without the referrers API."""
