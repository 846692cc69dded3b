"""The restoration of low-quality face crops under the conditions of a person."""
