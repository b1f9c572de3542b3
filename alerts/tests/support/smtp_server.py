"""A mail server for the tests: aiosmtpd with TLS and a password.

smtp_server.py PORT CERTIFICATE KEY starttls|tls OUTPUT   takes mail from the user kumon with the password geheim, and
appends each as a JSON line to OUTPUT: {"from", "to", "headers", "body"}.
"""

import email
import email.policy
import json
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

port, certificate, key, mode, output = sys.argv[1:]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "body": mail.get_content(),
        }
        with open(output, "a") as file:
            file.write(json.dumps(line) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, login):
    fits = (login.login, login.password) == (b"kumon", b"geheim")
    return AuthResult(success=fits, handled=fits)


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
options = {"authenticator": authenticate, "auth_required": True}
if mode == "tls":
    options |= {"ssl_context": context, "auth_require_tls": False}
else:
    options |= {"tls_context": context, "require_starttls": True}
Controller(Handler(), hostname="127.0.0.1", port=int(port), **options).start()
while True:
    time.sleep(3600)
