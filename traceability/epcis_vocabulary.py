"""The closed word lists of EPCIS 2.0 and CBV 2.0: what a business step, a disposition or a measurement may be called.

Anything outside these lists must be a full web address or name of its own, so that two parties never mean different
things by one bare word. The words are facts of the standard (GS1 CBV 2.0, §7; EPCIS 2.0, §7.3), written down
here by us.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ACTIONS: Final = _words("OBSERVE ADD DELETE")

BIZ_STEPS: Final = _words("""
    accepting arriving assembling collecting commissioning consigning creating_class_instance cycle_counting
    decommissioning departing destroying disassembling dispensing encoding entering_exiting holding inspecting
    installing killing loading other packing picking receiving removing repackaging repairing replacing
    reserving retail_selling sampling sensor_reporting shipping staging_outbound stock_taking stocking storing
    transporting unloading unpacking void_shipping
""")

DISPOSITIONS: Final = _words("""
    active available completeness_inferred completeness_verified conformant container_closed container_open damaged
    destroyed dispensed disposed encoded expired in_progress in_transit inactive mismatch_class mismatch_instance
    mismatch_quantity needs_replacement no_pedigree_match non_conformant non_sellable_other partially_dispensed
    recalled reserved retail_sold returned sellable_accessible sellable_not_accessible stolen unavailable unknown
""")

TRANSACTION_TYPES: Final = _words("bol cert desadv inv pedigree po poc prodorder recadv rma testprd testres upevt")

PARTY_TYPES: Final = _words("owning_party possessing_party location")

ERROR_REASONS: Final = _words("did_not_occur incorrect_data")

SENSOR_ALERTS: Final = _words("ALARM_CONDITION ERROR_CONDITION")

COMPONENTS: Final = _words("""
    x y z axial_distance azimuth height spherical_radius polar_angle elevation_angle easting northing latitude
    longitude altitude
""")

MEASUREMENTS: Final = _words("""
    AbsoluteHumidity AbsorbedDose AbsorbedDoseRate Acceleration Altitude AmountOfSubstance
    AmountOfSubstancePerUnitVolume Angle AngularAcceleration AngularMomentum AngularVelocity Area Capacitance
    Conductance Conductivity Count Density Dimensionless DoseEquivalent DoseEquivalentRate DynamicViscosity
    ElectricCharge ElectricCurrent ElectricCurrentDensity ElectricFieldStrength Energy Exposure Force Frequency
    Illuminance Inductance Irradiance KinematicViscosity Length LinearMomentum Luminance LuminousFlux
    LuminousIntensity MagneticFlux MagneticFluxDensity MagneticVectorPotential Mass MassConcentration
    MassFlowRate MassPerAreaTime MemoryCapacity MolalityOfSolute MolarEnergy MolarMass MolarVolume Power
    Pressure RadiantFlux RadiantIntensity Radioactivity RelativeHumidity Resistance Resistivity SolidAngle
    SpecificVolume Speed SurfaceDensity SurfaceTension Temperature Time Torque Voltage Volume VolumeFlowRate
    VolumeFraction VolumetricFlux Wavenumber
""")
