"""Answer quality: sampling, judging, estimates, and calibration of the router on live traffic.

This package never delays a client and does not know HTTP.
"""
