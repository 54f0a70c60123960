"""The stage `serve`: register the winner, judge its gates, and release it if they pass.

It serves only for its own smoke test. The service that stays is `gristmill serve`, which lies in
`components/orchestration/service` and follows the champion of the registry.
"""
