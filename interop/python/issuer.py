"""An identity provider, made of PyJWT and cryptography: public keys at /jwks.json, and whoever asks gets a token signed."""

import json

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def public(name):
    described = json.loads(jwt.get_algorithm_by_name(name).to_jwk(KEYS[name].public_key()))
    return described | {"kid": name, "alg": name}


async def jwks(_):
    return JSONResponse({"keys": [public(name) for name in KEYS]})


async def sign(request):
    name = request.path_params["algorithm"]
    return PlainTextResponse(jwt.encode(await request.json(), KEYS[name], name, headers={"kid": name}))


routes = [Route("/jwks.json", jwks), Route("/sign/{algorithm}", sign, methods=["POST"])]
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="info", access_log=False)
