"""How often 95 % intervals hold the truth, in simulated studies.   python -m benchmarks.calibration"""
