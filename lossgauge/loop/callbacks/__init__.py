"""The probe as a callback of training libraries, one file for each. Each needs its library, which is an extra of this package."""
