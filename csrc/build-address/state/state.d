build-address/state/state.o: state/state.c state/state.h pymigrate.h \
 base/error.h
state/state.h:
pymigrate.h:
base/error.h:
