"""The mathematics of diffusion, in pure torch: schedules, the denoiser, guidance, samplers, the ODE, likelihood."""
