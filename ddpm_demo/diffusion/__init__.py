"""The mathematics of diffusion in PyTorch: schedules, the denoiser, guidance, samplers, the ODE, likelihood."""
