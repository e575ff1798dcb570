"""BinderHub's public face, which gateway and member both show.

Pages, badges, ``/api/repoproviders``, CORS, the check of Host, build tokens, and the admission of a request for a
build up to a parsed spec.  Owns the templates and the browser's files.  Imports ``contract``, ``servicekit``,
``providers`` and libraries; knows no gateway and no member, builds nothing and launches nothing.
"""
