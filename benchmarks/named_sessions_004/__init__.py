"""The microservice of spec 004 in the stack and the layers that the document names: what ours is compared with.

FastAPI, SQLAlchemy's ORM on psycopg2, redis-py, python-jose and uvicorn with one worker. It keeps the document's
rules for one request at a time; it has no answer to two at once, as the document has none.
"""
