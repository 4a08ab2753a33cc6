"""Servers that speak OpenAI's chat protocol: asked over HTTP, several requests at a time; what they said is kept.

server = address.open_endpoint("http://127.0.0.1:8000/v1", "my-model", key_env=None)
replies = asking.ask_all(server, requests, parallel=8, kept=Kept())
"""
