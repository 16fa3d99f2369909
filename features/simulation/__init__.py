"""A simulated funnel with known truth, for the scenario ``simulated``.

``Simulation(SimulationSettings(...)).write(folder, days)`` writes daily logs as the scenario reads them and,
apart from them, the truth: one row an impression with

* ``impression_id``, as the samples have it, and ``category`` of the item;
* ``pctr``: probability of the click, ``pcvr``: probability of the conversion given the click;
* ``clicked``: whether it was, and ``converts``: whether a click on it leads to a conversion (also told where
  there was no click); an impression converts in the end if both are true;
* ``delay_s``: seconds from click to conversion, null where it does not convert.

``Simulation(...).day(day)`` is the same in memory.
"""

from features.simulation.settings import Noise as Noise
from features.simulation.settings import SimulationSettings as SimulationSettings
from features.simulation.simulation import SimulatedDay as SimulatedDay
from features.simulation.simulation import Simulation as Simulation
