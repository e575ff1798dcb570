"""Background work of a member: builds, launches, reports, cleaning up.

Every task is named and owned; nothing here answers requests or imports what does.
"""
