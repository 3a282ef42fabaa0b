"""The HTTP process: OpenAI's API in, typed messages to the core out. Never imports torch.

api      what requests and answers look like        text    tokens <-> text, chat template, stops
routes   one module an endpoint family              core_*  the core process and the socket to it
"""
