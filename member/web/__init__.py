"""The member's API: BinderHub's, and what a gateway asks of a member.

Holds no state of its own and imports no engine.
"""
