"""A mail server (aiosmtpd): PORT TLS [CERTIFICATE KEY USER PASSWORD]. A JSON line for each mail that it takes.

TLS is none, starttls or implicit. A recipient's local part may ask for an answer: refuse, busy, closing, hang.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

ANSWERS = {
    "refuse": "550 5.1.1 no such user",
    "busy": "451 4.3.0 not now",
    "closing": "421 4.3.2 closing",
}


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local in ANSWERS:
            return ANSWERS[local]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if any(to.startswith("hang@") for to in envelope.rcpt_tos):
            await asyncio.sleep(3600)
        mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        taken = {
            "id": mail["Message-ID"],
            "subject": mail["Subject"],
            "body": mail.get_content(),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "automatic": mail["Auto-Submitted"],
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data.login.decode() if session.authenticated else None,
        }
        print(json.dumps(taken), flush=True)
        return "250 taken"


def main():
    port, tls, *rest = sys.argv[1:]
    context, options = None, {}
    if tls != "none":
        certificate, key, user, password = rest
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def authenticate(server, session, envelope, mechanism, data):
            right = data.login == user.encode() and data.password == password.encode()
            return AuthResult(success=right, handled=False, auth_data=data)

        options = {"authenticator": authenticate, "auth_required": True}
    if tls == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if tls == "implicit":
        options |= {"auth_require_tls": False}
        options["ssl_context"] = context
    Controller(Handler(), hostname="127.0.0.1", port=int(port), ready_timeout=20, **options).start()
    print("ready", flush=True)
    sys.stdin.read()


main()
