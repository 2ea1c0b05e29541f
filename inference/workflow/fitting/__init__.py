"""What a fit is made of: the job that all seeds share, its data, its trace."""
