"""What goes wrong, and where: fault plans, the nemesis, Toxiproxy, processes, and the worlds that a coordinator is put into."""
